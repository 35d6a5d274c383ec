revision = s.revision + 1, version = s.version + 1, data = NULL, data_key = 0,
    previous_token_hash = NULL, previous_token_until = NULL, end_note = ''
