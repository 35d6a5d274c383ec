-- KEYS: the store's meta record. ARGV: layout version, partitions, epoch.
-- Makes the record if there is none, and returns it.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'partitions', ARGV[2], 'epoch', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'layout', 'partitions', 'epoch')
