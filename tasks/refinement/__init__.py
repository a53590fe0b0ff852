"""Parts of a refinement: where it starts, poses of a block, halves put together, its products; see `refine_map`."""
