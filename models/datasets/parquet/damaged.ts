/** What is wrong with a Parquet file, without the file's name. */
export class DamagedParquet extends Error {}
