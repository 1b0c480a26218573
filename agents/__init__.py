"""What learns: graph encoders, networks, training, serving."""
