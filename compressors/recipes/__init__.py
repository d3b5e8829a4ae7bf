"""What is done to the weights of a network: training, pruning, clustering, distillation."""
