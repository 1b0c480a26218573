"""Guided Double DQN: the learned router of Jain et al., arXiv 2408.13510."""
