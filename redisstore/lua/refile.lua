-- Files records under the time when the sweeper has to look at them: those that were
-- touched, and whatever is filed wrong. KEYS: due, over, then records. ARGV: their members.
for i = 3, #KEYS do
  local h, member = head_of(KEYS[i]), ARGV[i - 2]
  if h and h.open then
    redis.call('ZADD', KEYS[1], deadline(h.active, h.expires, h.idle), member)
    redis.call('ZREM', KEYS[2], member)
  else
    redis.call('ZREM', KEYS[1], member)
    if h then
      redis.call('ZADD', KEYS[2], h.ended, member)
    else
      redis.call('ZREM', KEYS[2], member)
    end
  end
end
return 0
