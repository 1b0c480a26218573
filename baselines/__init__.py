"""Rules and solvers to compare against, one package per world."""
