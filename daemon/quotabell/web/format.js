// Numbers and times as people read them.

const STEPS = [[1e15, "Q", 100], [1e12, "T", 100], [1e9, "B", 100], [1e6, "M", 100], [1e3, "k", 10]];
const FIGURES = new Intl.NumberFormat("en"); // as messages have them
const UNITS = { tokens: "tokens", requests: "requests", percent: "points" };

/** 1 800 000 → "1.8 M", 9 100 → "9,100", as messages (domain/figures.py) write it. Rounded down, so
 * that what is nearly full never shows as full. */
export function amount(number) {
  if (number === null || number === undefined) return "–";
  if (number < 100) return String(Math.floor(number * 10 + 1e-9) / 10);
  if (number < 10000) return FIGURES.format(Math.floor(number));
  const [size, letter, parts] = STEPS.find(([size]) => number >= size);
  return `${FIGURES.format(Math.floor(number / (size / parts)) / parts)} ${letter}`;
}

/** 91.049 → "91 %", one decimal below ten; null (no limit known) → "–". */
export function percent(value) {
  if (value === null || value === undefined) return "–";
  const digits = value < 10 && value > 0 ? 10 : 1;
  return `${Math.floor(value * digits + 1e-9) / digits} %`;
}

/** Tokens per second → "1,200/min", or per hour where a minute takes less than ten. */
export function burn(perSecond) {
  if (!perSecond) return "–";
  if (perSecond * 60 >= 10) return `${amount(perSecond * 60)}/min`;
  return `${amount(perSecond * 3600)}/h`;
}

/** Milliseconds → "42 s", "42 min", "3 h 20 min", "5 d". */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 10 && minutes % 60) return `${hours} h ${minutes % 60} min`;
  if (hours < 48) return `${Math.round(minutes / 60)} h`;
  return `${Math.round(hours / 24)} d`;
}

export function ago(iso, now) {
  if (!iso) return "never";
  const past = now - Date.parse(iso);
  return past < 5000 ? "just now" : `${duration(past)} ago`;
}

/** How long until then; empty if it is unknown or past. */
export function until(iso, now) {
  const left = iso ? Date.parse(iso) - now : 0;
  return left > 0 ? duration(left) : "";
}

export const unit = (name) => UNITS[name] ?? "tokens";

/** "1.8 M of 2 M" or, without a limit, "1.8 M". */
export function used(state) {
  const limit = state.tokenLimit ? ` of ${amount(state.tokenLimit)}` : "";
  return amount(state.tokensUsed) + limit;
}

/** 0: below every threshold; above one: 1, from 90 % on 2. 3: used up. */
export function severity(percentage, thresholds) {
  if (percentage === null || percentage === undefined) return 0;
  if (percentage >= 100) return 3;
  if (!thresholds?.some((threshold) => percentage >= threshold)) return 0;
  return percentage >= 90 ? 2 : 1;
}

const HOUR_AND_MINUTE = { hour: "2-digit", minute: "2-digit" };
const TIME = new Intl.DateTimeFormat([], HOUR_AND_MINUTE);
const DAY_AND_TIME = new Intl.DateTimeFormat([], { day: "numeric", month: "short", ...HOUR_AND_MINUTE });
const WHOLE = new Intl.NumberFormat();

export const clock = (milliseconds, withDay = false) => (withDay ? DAY_AND_TIME : TIME).format(milliseconds);

/** 1800000 → "1,800,000", as the reader's language writes it. */
export const whole = (number) => WHOLE.format(number);
