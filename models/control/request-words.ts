/** Translates reasons that name a command's options into the terms of a training request: its fields. */
export function inRequestWords(reason: string): string {
  return reason
    .replace(/--columns (\w+)=NAME,(\w+)=NAME/g, '"columns": {"$1": "NAME", "$2": "NAME"} in the request')
    .replace(/--columns (\w+)=NAME/g, '"columns": {"$1": "NAME"} in the request')
    .replace(/--columns (\w+)= /g, '"columns": {"$1": null} in the request ')
    .replace(/--labels fraud=WORD,genuine=WORD/g, '"labels": {"fraud": ["WORD"], "genuine": ["WORD"]} in the request')
    .replace(/--no-day-first/g, '"day_first": false')
    .replace(/--day-first/g, '"day_first": true in the request')
    .replace(/--keep NAME/g, '"keep": ["NAME"] in the request')
    .replace(/--(time-format|decimal|encoding|delimiter) ([a-zA-Z]+)/g, (_, option: string, value: string) => {
      return `"${option.replace("-", "_")}": "${value}" in the request`;
    })
    .replace(/(?<![\w-])--([a-z][a-z-]*)/g, (_, option: string) => `"${option.replaceAll("-", "_")}" in the request`);
}
