"""Training augmentation: RandAugment, random crop, flip and erasing of clips, mixup of batches."""
