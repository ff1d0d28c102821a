/**
 * The statements of a file, split at semicolons outside of strings, quoted names and comments. Comments are dropped, so
 * that comments may be improved without changing the migration.
 */
export function splitStatements(text: string): string[] {
  const statements: string[] = [];
  let statement = "";
  for (const [piece] of text.matchAll(PIECE)) {
    if (piece === ";") {
      statements.push(statement.trim());
      statement = "";
    } else if (isComment(piece)) statement += " ";
    else statement += piece;
  }
  statements.push(statement.trim());
  return statements.filter((candidate) => candidate !== "");
}

/** Comments, here-documents, quoted texts and names (with \x and doubled quotes), then any other single character. */
const PIECE = new RegExp(
  [
    /--[^\n]*|#[ !][^\n]*|\/\*[\s\S]*?\*\//,
    /(\$\w*\$)[\s\S]*?\1/,
    /'(?:\\[\s\S]|''|[^'\\])*'|"(?:\\[\s\S]|""|[^"\\])*"|`(?:\\[\s\S]|``|[^`\\])*`/,
    /[\s\S]/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "g",
);

function isComment(piece: string): boolean {
  return piece.length > 1 && /^(--|#|\/\*)/.test(piece);
}
