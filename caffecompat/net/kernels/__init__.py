"""Operations of a training step on a GPU, as Triton kernels and as torch operators.

Each module has a function in torch operators, which is the definition and runs anywhere, and a
launch of the kernel of the same name in ``triton_code``, which computes the same with one pass over
memory. :mod:`caffecompat.net.kernels.choice` says which of them runs. Triton comes with CUDA builds
of torch; nothing else needs it.
"""
