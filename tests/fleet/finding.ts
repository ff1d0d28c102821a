/** What one scenario found. */
export interface Finding {
  scenario: string;
  figures: Record<string, unknown>;
  wrong: string[];
}
