"""Game days: public outages replayed against the real thing, with real processes on loopback."""
