"""The commands that make a run smaller, faster or ready for a device."""
