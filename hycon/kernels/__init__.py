"""Fast forms of operations, each beside its plain form. The only home of torch.autograd.Function."""
