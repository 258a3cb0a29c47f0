"""The Triton kernels. These modules are imported only where Triton is installed and used."""
