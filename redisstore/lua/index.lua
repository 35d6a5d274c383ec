-- The entries of a subject. KEYS: pending, live, ended. ARGV: from, to, limit.
-- Returns the server's time, the pending entries with their stamps, and up to limit of
-- the live and the ended ones, newest first.
local t = redis.call('TIME')
local answer = {tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000), redis.call('HGETALL', KEYS[1])}
for i = 2, 3 do
  answer[i + 1] = redis.call('ZRANGE', KEYS[i], ARGV[1], ARGV[2], 'BYLEX', 'REV', 'LIMIT', 0, ARGV[3])
end
return answer
