"""The paper's evaluations: what ``fastsam evaluate`` runs."""
