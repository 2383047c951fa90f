// Follows an answer to its receipt over a link that drops. The server goes on without us, and never charges again.
import { AskFinishReason, RetrievalService } from "../gen/bacmr/v1/retrieval_pb.js";
import { after, recalled, type Answer } from "./answer.js";
import type { Client } from "./client.js";
import { followed } from "./follow.js";
import { Refusal } from "./refusal.js";

/**
 * Ask, or go on where the answer stands, until its outcome. `changed` gets each state, `waiting` hears whether the
 * link is down. Throws the Refusal that ended it.
 */
export async function follow(
  client: Client,
  start: Answer,
  changed: (answer: Answer) => void,
  waiting: (down: boolean) => void,
  signal: AbortSignal,
): Promise<Answer> {
  let answer = start;
  const { ask, resumeAsk, getAnswer } = RetrievalService.method;
  const open = (stop: AbortSignal) =>
    answer.answerId
      ? client.stream(resumeAsk, { answerId: answer.answerId, afterSequence: BigInt(answer.sequence) }, stop)
      : client.stream(ask, {
          question: answer.question,
          conversationId: answer.askedIn,
          answerLanguage: answer.answerLanguage,
          requestId: answer.requestId,
        }, stop);
  const ended = () => answer.outcome !== undefined;
  const failed = () => answer.outcome?.reason === AskFinishReason.FAILED;
  try {
    for await (const event of followed(open, ended, waiting, signal, failed)) {
      answer = after(answer, event);
      changed(answer);
    }
  } catch (error) {
    if (!(error instanceof Refusal && error.reason === "EVENTS_GONE")) throw error;
    const stored = (await client.unary(getAnswer, { answerId: answer.answerId }, { signal })).answer;
    if (!stored) throw error;
    answer = { ...recalled(stored), requestId: answer.requestId };
    changed(answer);
  }
  return answer;
}
