-- Files records under the time when the sweeper has to look at them: those that were
-- touched, and whatever is filed wrong. KEYS: due, over, then heads. ARGV: their members.
for i = 3, #KEYS do
  local h, member = head(KEYS[i]), ARGV[i - 2]
  if h[1] and not h[8] then
    redis.call('ZADD', KEYS[1], deadline(tonumber(h[5]), tonumber(h[6]), tonumber(h[7])), member)
    redis.call('ZREM', KEYS[2], member)
  else
    redis.call('ZREM', KEYS[1], member)
    if h[8] then
      redis.call('ZADD', KEYS[2], h[8], member)
    else
      redis.call('ZREM', KEYS[2], member)
    end
  end
end
return 0
