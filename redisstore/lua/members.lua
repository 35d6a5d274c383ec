-- KEYS: an index of members. ARGV: from, to, limit.
-- Returns a list of up to limit members in order.
return {redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, ARGV[3])}
