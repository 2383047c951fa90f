// An answer as a page shows it, put together from its events. Plain data: it is kept as JSON over a reload.
import type { Answer as StoredAnswer, AskCompleted, AskEvent, Citation } from "../gen/bacmr/v1/retrieval_pb.js";
import { ErrorReason } from "../gen/bacmr/v1/errors_pb.js";
import type { AskFinishReason } from "../gen/bacmr/v1/retrieval_pb.js";
import type { Language } from "../gen/bacmr/v1/language_pb.js";
import type { Reason } from "./refusal.js";

export interface Source {
  chunkId: string;
  title: string;
  page: number;
  text: string;
  /** Place of the text within its page, in code points. */
  start: number;
  language: Language;
}

export interface Quote {
  number: number;
  chunkId: string;
  title: string;
  page: number;
  quote: string;
  start: number;
}

export interface Outcome {
  reason: AskFinishReason;
  quotes: Quote[];
  unsupported: string[];
  dropped: number[];
  chargedTokens: number;
  refundedTokens: number;
  balanceTokens: number;
  model: string;
}

export interface Answer {
  requestId: string;
  question: string;
  /** The conversation it was asked in, empty for the first question of one. */
  askedIn: string;
  answerLanguage: Language;
  conversationId: string;
  answerId: string;
  /** Last event seen. */
  sequence: number;
  stage: string;
  language: Language;
  maxChargeTokens: number;
  sources: Source[];
  text: string;
  degraded: string[];
  outcome?: Outcome;
  /** Why it failed, which the status after its receipt said. */
  failure?: Reason;
}

export function asked(requestId: string, question: string, conversationId: string, answerLanguage: Language): Answer {
  return {
    requestId,
    question,
    askedIn: conversationId,
    answerLanguage,
    conversationId,
    answerId: "",
    sequence: 0,
    stage: "",
    language: 0,
    maxChargeTokens: 0,
    sources: [],
    text: "",
    degraded: [],
  };
}

/** Return the answer after one more event; an event seen before changes nothing. */
export function after(answer: Answer, { sequence, event }: AskEvent): Answer {
  if (Number(sequence) <= answer.sequence) return answer;
  const next = { ...answer, sequence: Number(sequence) };
  switch (event.case) {
    case "started":
      next.answerId = event.value.answerId;
      next.conversationId = event.value.conversationId;
      next.language = event.value.detectedLanguage;
      next.maxChargeTokens = Number(event.value.maxChargeTokens);
      break;
    case "progress":
      next.stage = event.value.stage;
      break;
    case "passages":
      next.sources = event.value.passages.map((found) => ({
        chunkId: found.chunkId,
        title: found.documentTitle,
        page: found.page,
        text: found.text,
        start: found.start,
        language: found.language,
      }));
      break;
    case "delta":
      next.text += event.value.text;
      break;
    case "degraded":
      next.degraded = [...answer.degraded, event.value.step];
      break;
    case "completed":
      next.outcome = outcome(event.value);
      break;
  }
  return next;
}

/** Return a finished answer from the conversation's history. */
export function recalled(stored: StoredAnswer): Answer {
  return {
    ...asked("", stored.question, stored.conversationId, 0),
    answerId: stored.id,
    sequence: Number(stored.lastSequence),
    language: stored.detectedLanguage,
    text: stored.text,
    outcome: outcome(stored),
    ...(stored.failureReason && { failure: ErrorReason[stored.failureReason] as Reason }),
  };
}

type Ended = Pick<AskCompleted, "finishReason" | "citations" | "validation" | "receipt" | "model">;

function outcome(ended: Ended): Outcome {
  return {
    reason: ended.finishReason,
    quotes: ended.citations.map(quote),
    unsupported: ended.validation?.unsupportedSentences ?? [],
    dropped: ended.validation?.droppedCitations ?? [],
    chargedTokens: Number(ended.receipt?.chargedTokens ?? 0),
    refundedTokens: Number(ended.receipt?.refundedTokens ?? 0),
    balanceTokens: Number(ended.receipt?.balanceTokens ?? 0),
    model: ended.model,
  };
}

function quote(citation: Citation): Quote {
  const { number, chunkId, documentTitle: title, page, quote: text, start } = citation;
  return { number, chunkId, title, page, quote: text, start };
}
