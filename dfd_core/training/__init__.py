"""Fine-tuning: settings, augmentation, splits and the trainer."""
