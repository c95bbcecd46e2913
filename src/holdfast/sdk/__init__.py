"""What a consumer imports; it reads snapshots and needs no server code."""
