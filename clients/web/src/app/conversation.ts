// The conversation on the page: its answers, the one that runs, and what is kept so that a reload goes on with it.
import { asked, recalled, type Answer } from "../client/answer.js";
import { follow } from "../client/ask.js";
import type { Client } from "../client/client.js";
import { Code, Refusal } from "../client/refusal.js";
import { uuid } from "../client/request_id.js";
import type { Language } from "../gen/bacmr/v1/language_pb.js";
import { RetrievalService } from "../gen/bacmr/v1/retrieval_pb.js";

const RUNNING = "bacmr.running";
const ENDED = "bacmr.ended";
const ENDED_KEPT = 5;
const CURRENT = "bacmr.conversation";
const TURNS_SHOWN = 20;

/** An answer on the page and what goes wrong with it. */
export interface Turn {
  answer: Answer;
  running: boolean;
  linkDown: boolean;
  refusal?: Refusal | undefined;
}

function past(answer: Answer): Turn {
  return { answer, running: false, linkDown: false, refusal: answer.failure && new Refusal(Code.UNKNOWN, answer.failure) };
}

export class Conversation {
  turns: Turn[] = [];
  private stop = new AbortController();
  /** Hears which turn changed; undefined when all may have. */
  changed: (turn?: Turn) => void = () => undefined;
  /** Hears the balance that a receipt tells, undefined when it is not known. */
  settled: (balance?: number) => void = () => undefined;

  constructor(private readonly client: Client) {}

  get id(): string {
    return localStorage.getItem(CURRENT) ?? "";
  }

  get running(): Turn | undefined {
    return this.turns.find((turn) => turn.running);
  }

  /** Show the conversation that was left, and go on with the answer that was running. */
  async restore(): Promise<void> {
    const ended = JSON.parse(localStorage.getItem(ENDED) ?? "[]") as Answer[];
    this.turns = ended.map(past);
    const running = localStorage.getItem(RUNNING);
    if (running) this.add(JSON.parse(running) as Answer);
    this.changed();
    if (this.id) await this.open(this.id);
  }

  /** Show a conversation from the history. */
  async open(id: string): Promise<void> {
    const { answers } = await this.client.unary(RetrievalService.method.listAnswers, {
      conversationId: id,
      pageSize: TURNS_SHOWN,
    });
    // What runs here may have ended since the list was made: the page knows it better.
    const here = this.turns;
    const ids = new Set(here.map((turn) => turn.answer.answerId));
    const stored = answers.reverse().filter((answer) => !ids.has(answer.id) && answer.receipt);
    localStorage.setItem(CURRENT, id);
    this.turns = [...stored.map((answer) => past(recalled(answer))), ...here];
    this.keepEnded();
    this.changed();
  }

  /** Ask, following up on the conversation so far. */
  ask(question: string, language: Language): void {
    this.add(asked(uuid(), question, this.id, language));
    this.changed();
  }

  /** Try a refused question again: under the id it had, unless that led to an answer that failed. */
  retry(turn: Turn): void {
    this.turns = this.turns.filter((other) => other !== turn);
    const { outcome, question, askedIn, answerLanguage } = turn.answer;
    this.add(outcome ? asked(uuid(), question, askedIn, answerLanguage) : turn.answer);
    this.changed();
  }

  /**
   * Stop the running answer; what was written stays and is paid for. Returns the question when the link let nothing
   * of its answer through yet: it is taken back.
   */
  async cancel(): Promise<string> {
    const turn = this.running;
    if (!turn) return "";
    const { answerId, question } = turn.answer;
    if (answerId) {
      await this.client.unary(RetrievalService.method.cancelAsk, { answerId });
      return "";
    }
    this.leave();
    localStorage.removeItem(RUNNING);
    this.turns = this.turns.filter((other) => other !== turn);
    this.changed();
    return question;
  }

  /** Begin a new one. The old one stays in the history, and what runs there goes on in the server. */
  clear(): void {
    this.leave();
    for (const key of [RUNNING, ENDED, CURRENT]) localStorage.removeItem(key);
    this.turns = [];
    this.changed();
  }

  /** Stop following and show nothing: another person comes. What is kept stays. */
  forget(): void {
    this.leave();
    this.turns = [];
  }

  private leave(): void {
    this.stop.abort();
    this.stop = new AbortController();
  }

  /** Keep the last answers, to read them where there is no link. */
  private keepEnded(): void {
    const ended = this.turns.map((turn) => turn.answer).filter((answer) => answer.outcome);
    localStorage.setItem(ENDED, JSON.stringify(ended.slice(-ENDED_KEPT)));
  }

  private add(answer: Answer): void {
    const turn: Turn = { answer, running: true, linkDown: false };
    this.turns.push(turn);
    void this.run(turn, this.stop.signal);
  }

  private async run(turn: Turn, signal: AbortSignal): Promise<void> {
    const keep = (answer: Answer) => {
      turn.answer = answer;
      localStorage.setItem(RUNNING, JSON.stringify(answer));
      if (answer.conversationId) localStorage.setItem(CURRENT, answer.conversationId);
      this.changed(turn);
    };
    keep(turn.answer);
    try {
      await follow(this.client, turn.answer, keep, (down) => {
        turn.linkDown = down;
        this.changed(turn);
      }, signal);
    } catch (error) {
      if (signal.aborted) return;
      turn.refusal = error instanceof Refusal ? error : new Refusal(Code.UNKNOWN, "UNKNOWN");
      if (turn.answer.outcome) turn.answer = { ...turn.answer, failure: turn.refusal.reason };
    }
    turn.running = false;
    turn.linkDown = false;
    localStorage.removeItem(RUNNING);
    this.keepEnded();
    this.changed(turn);
    this.settled(turn.answer.outcome?.balanceTokens);
  }
}
