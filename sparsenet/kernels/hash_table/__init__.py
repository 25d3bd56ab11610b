"""The hash table from the keys of sites to their rows: cpu.py fills and reads it, layout.py is what any table is."""
