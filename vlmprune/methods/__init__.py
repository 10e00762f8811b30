"""Pruning methods, one file each: pure tensor code that imports torch and never transformers or a model."""
