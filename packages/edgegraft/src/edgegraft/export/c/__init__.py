"""Programs as plain C99 for microcontrollers: one arena, weights in flash, no library needed."""
