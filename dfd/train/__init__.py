"""Fine-tuning with Ray Train: data, loop, bundle."""
