"""Pure functions on tensors; nothing here owns a parameter or touches the disk."""
