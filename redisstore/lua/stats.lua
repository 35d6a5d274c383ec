-- KEYS: clock, counts. ARGV: clock. Returns the time and the counters.
return {(clock(KEYS[1], ARGV[1])), redis.call('HGETALL', KEYS[2])}
