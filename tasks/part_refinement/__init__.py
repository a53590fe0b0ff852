"""Parts of a local refinement: where it starts, what is taken off the images, poses, halves, products."""
