"""What tests share: tiny backbones, rows, runs, ranks, and the ends that are put to processes."""
