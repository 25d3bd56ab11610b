"""To look inside: traces, tables, pictures, the inspector page."""
