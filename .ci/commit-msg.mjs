// Checks the subject of a commit; .githooks/commit-msg calls it with the file of the message.
import { readFileSync } from "node:fs";

const LONGEST = 72;

const lines = readFileSync(process.argv[2], "utf8").split(/\r?\n/);
// Lines with # are git's own remarks. Git refuses an empty message by itself.
const subject = (lines.find((line) => line.trim() !== "" && !line.startsWith("#")) ?? "").trimEnd();
// Git wrote these subjects; those of fixups go away when they are squashed.
const isGits = /^(?:Merge |(?:fixup|squash|amend)! )/.test(subject);
const length = [...subject].length;

const complaints = [];
if (!isGits && length > LONGEST) complaints.push(`it has ${length} characters, more than ${LONGEST}: shorten it`);
if (!isGits && /[.。]$/.test(subject)) complaints.push("it ends in a full stop: remove that");
if (complaints.length > 0) {
  console.error(`commit-msg: the subject of the commit is refused:\n  ${subject}`);
  for (const complaint of complaints) console.error(`- ${complaint}`);
  console.error(`Put details behind an empty line. To edit your message: git commit -e -F '${process.argv[2]}'`);
  process.exitCode = 1;
}
