"""The presets: one file a detector, and the first examples to read. Copy one and change it."""
