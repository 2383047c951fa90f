-- Conversations, answers and their stored events.
DROP TABLE trace, rating, answer_citation, answer_event, answer, conversation;
