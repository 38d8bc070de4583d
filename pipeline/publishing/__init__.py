"""Publishing: a finished corpus as a folder that data repositories and their readers understand.

`pipeline.publishing.publication` brings it together; the others each do one part: `terms` reads licences, `placing`
links, copies or packs the corpus, `preview` draws thumbnails into Parquet, `croissant` and `documents` describe it from
`facts`.
"""
