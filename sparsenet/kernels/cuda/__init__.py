"""The machinery of the CuPy backend: sources and their launch, the driver, signatures, streams, tiles, and the headers
that several families include."""
