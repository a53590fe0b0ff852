"""What `deposit_structure` is made of: what is known, and the parts of the bundle."""
