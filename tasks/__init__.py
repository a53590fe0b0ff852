"""One stage a file: reads stores, calls kernels, writes stores."""
