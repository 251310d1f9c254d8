"""Service level objectives: what is counted, how it is judged, what is declared; pure."""
