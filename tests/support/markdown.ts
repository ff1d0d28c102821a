/** A document with each item of a list on one line. */
export const unwrapped = (text: string): string => text.replace(/\n {2,}(?=[^\s-])/g, " ");
