import type { ErrorGroup } from "./row.js";

const FROM_A_FILE = ["job", "exit"] as const;

/** Data to train with, and the training. */
export const TRAINING_ERRORS = {
  title: "Data sets and training",
  about:
    "The `error.code` of a training job (`GET /api/v1/training-jobs/{id}`), or what ends `npm run train` " +
    "and `npm start` with a file: they print the message, which names file, line and column.",
  codes: {
    bad_columns: {
      places: FROM_A_FILE,
      meaning: "The choice of columns is contradictory.",
      remedy: "Correct `columns` (`--columns`).",
    },
    bad_delimiter: {
      places: FROM_A_FILE,
      meaning: "The delimiter that was named is not one of comma, semicolon, tab and pipe.",
      remedy: "Correct `delimiter` (`--delimiter`), or leave it out.",
    },
    unknown_encoding: {
      places: FROM_A_FILE,
      meaning: "The encoding that was named is not known.",
      remedy: "Correct `encoding` (`--encoding`), or leave it out.",
    },
    bad_features: {
      status: 400,
      places: FROM_A_FILE,
      meaning: "The features that were asked for are not written as schemas/features.schema.json says.",
      remedy: "Correct what the message names by its path.",
    },
    bad_labels: {
      places: FROM_A_FILE,
      meaning:
        "What the words of the label column mean was not said as fraud=WORD or genuine=WORD, or both of one word.",
      remedy: "Correct `labels` (`--labels`).",
    },
    bad_parquet: {
      places: FROM_A_FILE,
      meaning: "The Parquet file is damaged, encrypted, or written in a way that is not read; the message says where.",
      remedy: "Get the file again, or write it anew.",
    },
    bad_test_range: {
      places: FROM_A_FILE,
      meaning: "The test range has too few frauds or too few genuine transactions.",
      remedy: "Choose a longer range.",
    },
    bad_threshold: {
      status: 400,
      places: FROM_A_FILE,
      meaning: "The review capacity or the decline precision is no share over 0 and up to 1.",
      remedy: "Correct it.",
    },
    bad_time_format: {
      status: 400,
      places: FROM_A_FILE,
      meaning: "The format of times is neither a unit nor a pattern.",
      remedy: "Correct `time_format` (`--time-format`).",
    },
    bad_training_request: {
      status: 400,
      places: ["job"],
      meaning: "A field of the training request is wrong.",
      remedy: "Correct the field that is named.",
    },
    csv_ambiguous: {
      places: FROM_A_FILE,
      meaning: "Cells can be read in more than one way: which number of a date is the day, what a number counts.",
      remedy: "Say which with the option that the message names.",
    },
    csv_bad_encoding: {
      places: FROM_A_FILE,
      meaning: "The file's bytes are not text in the encoding that it is in by its looks, or by what was said.",
      remedy: "Save it as UTF-8, or name its encoding with `encoding` (`--encoding`).",
    },
    csv_bad_quote: {
      places: FROM_A_FILE,
      meaning: "A quotation mark is not closed, or in the wrong place.",
      remedy: "Correct the line.",
    },
    csv_bad_value: {
      places: FROM_A_FILE,
      meaning: "A cell is not what its column must hold.",
      remedy: "Correct the cell.",
    },
    csv_bomb: {
      places: FROM_A_FILE,
      meaning: "The file unpacks to so much more than its size that it is taken for a compression bomb.",
      remedy: "Pack it otherwise, or not at all.",
    },
    csv_duplicate_column: {
      places: FROM_A_FILE,
      meaning: "Two columns have the same name, or could both have a role.",
      remedy: "Rename one, or choose with `columns` (`--columns`).",
    },
    csv_empty: { places: FROM_A_FILE, meaning: "The file has no header, or no rows.", remedy: "Take another file." },
    csv_missing_column: {
      places: FROM_A_FILE,
      meaning: "No column for something that is needed was recognised, or the chosen one is not there.",
      remedy: "Choose one with `columns` (`--columns`).",
    },
    csv_one_class: {
      places: FROM_A_FILE,
      meaning: "All rows are frauds, or none is.",
      remedy: "Take a file that has both.",
    },
    csv_ragged_line: {
      places: FROM_A_FILE,
      meaning: "A line has more or fewer columns than the header.",
      remedy: "Correct the line.",
    },
    csv_too_large: {
      places: FROM_A_FILE,
      meaning: "The file unpacks to more bytes than are taken.",
      remedy: "Take a smaller file.",
    },
    csv_too_many_columns: {
      places: FROM_A_FILE,
      meaning: "The file has too many columns.",
      remedy: "Leave some out.",
    },
    csv_too_many_rows: {
      places: FROM_A_FILE,
      meaning: "The file has more rows than are taken.",
      remedy: "Take a smaller file.",
    },
    csv_truncated: {
      places: FROM_A_FILE,
      meaning: "The packed data (gzip, zstd) ends too early, or is damaged.",
      remedy: "Get the file again.",
    },
    dataset_empty: {
      places: ["job"],
      meaning: "No stored transactions of that time are labelled or old enough.",
      remedy: "Choose another time, or wait for labels (LABEL_MATURITY_DAYS).",
    },
    dataset_one_moment: {
      places: ["exit"],
      meaning: "All transactions of the file have the same time.",
      remedy: "Take a file whose event times differ.",
    },
    dataset_too_many_rows: {
      places: ["job"],
      meaning: "More rows are stored in that time than are taken.",
      remedy: "Choose a shorter time.",
    },
    download_bad_url: {
      places: ["job"],
      meaning: "The link, or where it redirects to, is not one that is followed.",
      remedy: "Correct it.",
    },
    download_broken: {
      retriable: true,
      places: ["job"],
      meaning: "The connection broke.",
      remedy: "Ask for the job again.",
    },
    download_disk: {
      retriable: true,
      places: ["job"],
      meaning: "The file could not be written.",
      remedy: "Make room under the trainer's DATA_DIR, and ask for the job again.",
    },
    download_encoding: {
      places: ["job"],
      meaning: "The server sent a content encoding that cannot be undone.",
      remedy: "Serve the file plain, or with gzip, br, deflate or zstd.",
    },
    download_not_csv: {
      places: ["job"],
      meaning: "The link leads to something else than a CSV or Parquet file.",
      remedy: "Correct the link.",
    },
    download_private_address: {
      places: ["job"],
      meaning: "The host has a private, local or special address.",
      remedy: "Take another host, or allow the address with DATASETS_ALLOW_PRIVATE.",
    },
    download_redirects: {
      places: ["job"],
      meaning: "The link redirects too often.",
      remedy: "Give the final address.",
    },
    download_stalled: {
      retriable: true,
      places: ["job"],
      meaning: "Nothing came for too long.",
      remedy: "Ask for the job again.",
    },
    download_status: {
      retriable: "sometimes",
      places: ["job"],
      meaning: "The server answered with another status than 200.",
      remedy: "Correct the link; after a status of 500 or more, or 429, ask for the job again.",
    },
    download_too_large: {
      places: ["job"],
      meaning: "The file has more bytes than are taken.",
      remedy: "Take a smaller file.",
    },
    download_too_slow: {
      retriable: true,
      places: ["job"],
      meaning: "The download took too long.",
      remedy: "Ask for the job again.",
    },
    download_unreachable: {
      retriable: true,
      places: ["job"],
      meaning: "The host of the link could not be reached.",
      remedy: "Correct the link, or ask for the job again.",
    },
    file_not_found: { places: FROM_A_FILE, meaning: "There is no such file.", remedy: "Correct the path." },
    file_unreadable: {
      places: FROM_A_FILE,
      meaning: "The file can't be read, or is a folder.",
      remedy: "Correct the path or its rights.",
    },
    not_csv: {
      places: FROM_A_FILE,
      meaning: "This is neither delimited text with a header, plain, gzipped or zipped, nor a Parquet file.",
      remedy: "Take another file, or convert it.",
    },
    too_few_rows: {
      places: FROM_A_FILE,
      meaning: "A part for training, validation or test would have no rows, or none of a class.",
      remedy: "Take more data, or another split.",
    },
    training_abandoned: {
      places: ["job"],
      meaning: "Several trainers were lost while they worked on the job.",
      remedy: "Look in their logs; give them more memory, or the job less data.",
    },
    training_aborted: { places: ["log"], meaning: "The training was called off.", remedy: "Nothing." },
    training_crashed: {
      places: ["job"],
      meaning: "The job's process crashed.",
      remedy: "Look at the reason; report it if it repeats.",
    },
    training_diverged: {
      places: FROM_A_FILE,
      meaning: "The logistic regression found no finite weights.",
      remedy: "Raise `lambda_l2`.",
    },
    training_empty: {
      places: FROM_A_FILE,
      meaning: "A part has no rows or no features.",
      remedy: "Take more data, or other features.",
    },
    training_failed: {
      places: FROM_A_FILE,
      meaning: "Training failed in a way that has no code of its own.",
      remedy: "Look in the trainer's log.",
    },
    training_infinite: {
      places: FROM_A_FILE,
      meaning: "A feature of a row is infinite.",
      remedy: "Correct the row.",
    },
    training_killed: {
      places: ["job"],
      meaning: "The job's process was killed, probably because the machine ran out of memory.",
      remedy: "Give the machine more memory, or the job less data.",
    },
    training_one_class: {
      places: FROM_A_FILE,
      meaning: "A part has only frauds, or none.",
      remedy: "Take more data, or another split.",
    },
    training_out_of_memory: {
      places: ["job"],
      meaning: "The data needs more memory than the trainer has.",
      remedy: "Give the trainer more memory, or the job less data.",
    },
    training_params: {
      status: 400,
      places: FROM_A_FILE,
      meaning:
        "A parameter of the algorithm is unknown, given twice, out of range, excluded by another, or asks for what " +
        "the trainer doesn't do.",
      remedy:
        "Correct `params` (`--param`): the message names the nearest parameter, the range, or what to do instead.",
    },
    training_shape: {
      places: ["job", "log"],
      meaning: "Values, labels and features do not fit together.",
      remedy: "Report it: this is a defect.",
    },
    training_superseded: {
      places: ["log"],
      meaning: "The job was cancelled, or another trainer has it by now.",
      remedy: "Nothing.",
    },
    zip_archive: {
      places: FROM_A_FILE,
      meaning: "The zip archive does not hold exactly one data file that can be read.",
      remedy: "Unpack it, and take one CSV file of it.",
    },
  },
} as const satisfies ErrorGroup;
