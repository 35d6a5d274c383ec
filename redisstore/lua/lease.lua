-- KEYS: lease. ARGV: token, milliseconds. Takes or renews the lease, or with 0 gives it up.
-- Returns 1 if it is the token's (was, with 0).
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  return redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
