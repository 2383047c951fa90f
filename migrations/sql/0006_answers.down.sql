-- Conversations, answers and their stored events.
DROP FUNCTION answer_earlier, answer_open, answer_append, answer_close, usage_record;
DROP TABLE model_usage, trace, rating, answer_citation, answer_event, answer, conversation;
