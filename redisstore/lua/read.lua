-- KEYS: clock, then records. Returns the server's time, and the values of all keys.
return {redis.call('TIME'), redis.call('MGET', unpack(KEYS))}
