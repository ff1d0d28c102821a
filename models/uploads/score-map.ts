import { Type, type Static } from "@sinclair/typebox";

const strict = { additionalProperties: false } as const;

/** How an output that is no probability becomes a score from 0 to 1. */
export const ScoreMap = Type.Union(
  [
    Type.Object(
      {
        kind: Type.Literal("linear"),
        zero: Type.Number({ description: "The output that becomes 0; what is beyond it becomes 0, too." }),
        one: Type.Number({ description: "The output that becomes 1; less than `zero` where low means fraud." }),
      },
      strict,
    ),
    Type.Object(
      {
        kind: Type.Literal("sigmoid"),
        centre: Type.Optional(Type.Number({ default: 0, description: "The output that becomes 0.5." })),
        slope: Type.Optional(Type.Number({ default: 1, description: "Negative where low means fraud." })),
      },
      strict,
    ),
  ],
  {
    description:
      "For outputs that are no probabilities: an anomaly score (linear), a margin or log-odds (sigmoid). The scores " +
      "of the sample rows are those after the mapping.",
  },
);
export type ScoreMap = Static<typeof ScoreMap>;

/** What an author says of how the model's graph is called and read. */
export const InputMapping = Type.Array(
  Type.Object(
    {
      name: Type.String({ minLength: 1, maxLength: 200 }),
      features: Type.Array(Type.String({ minLength: 1, maxLength: 200 }), { minItems: 1, maxItems: 2_000 }),
    },
    strict,
  ),
  {
    maxItems: 2_000,
    description:
      "Which features each input of the graph takes, in the order of its columns. Not needed with one input (it " +
      "takes all features in their order), nor when each input has the name of its feature.",
  },
);
export type InputMapping = Static<typeof InputMapping>;

/** How a model's graph is called and read, as far as its author says. */
export interface GraphWords {
  input?: string | undefined;
  inputs?: InputMapping | undefined;
  output?: string | undefined;
  fraud_class?: string | number | undefined;
  fraud_column?: number | undefined;
  score_map?: ScoreMap | undefined;
}
