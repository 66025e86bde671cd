"""Fast forms of operations, each beside its plain form; the only home of torch.autograd.Function.

A kernel is one function with two bodies. The plain one (`plain_...`) is a few lines of ordinary PyTorch; the tests
compare the fast one with it, values and gradients. Which body runs where:

    kernel              on a CPU    elsewhere
    dropout             fast        PyTorch's own
    lstm                fast        cuDNN; where cell states are asked for, fused_cells
    tensor_product      fast        plain
    softmax_gate        fast        plain
    gated_memory        fast        fused_cells
    fusion_graph        fast        fast
    attention           fast        few_calls: PyTorch's scaled_dot_product_attention where it can serve
    joined_linears      one by one  one product
    feed_forward        fast        plain
    convolution         fast        fast
    correlation         fast        fast: the plain one has no gradient on degenerate inputs
    optim               PyTorch's rules without PyTorch's classes

`packing` and `padding` say how the rows of utterances of unequal length lie.
"""
