"""Provider `vast`: the vast.ai marketplace, over the vendor's package at response level."""
