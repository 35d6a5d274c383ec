-- Writes the time down. KEYS: clock. ARGV: clock.
local now, wall, us = clock(KEYS[1], ARGV[1])
keep(KEYS[1], now, wall, us)
return now
