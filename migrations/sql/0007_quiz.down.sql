DROP TABLE question_memory, quiz_attempt, quiz_event, quiz_question;
DROP FUNCTION sees_quiz(uuid) CASCADE;
DROP TABLE quiz;
