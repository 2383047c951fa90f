DROP FUNCTION answer_end(
    uuid, uuid, bigint, json, text, text, text, text, json, json, uuid, jsonb, bigint, bigint, uuid, uuid);
